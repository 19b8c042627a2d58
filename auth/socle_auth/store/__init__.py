"""Every SQL statement of the auth service, by table family; `rows` holds what they return."""
