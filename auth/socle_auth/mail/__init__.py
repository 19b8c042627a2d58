"""What mails say: Go templates, their sources and the built-in texts."""
