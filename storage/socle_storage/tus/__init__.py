"""Resumable uploads: TUS 1.0.0 over the service's own write path (https://tus.io/protocols/resumable-upload).

headers   what the protocol says in headers, as values (pure)
locks     one request at a time for each upload
filling   a stream becomes stored parts, and the parts an object
endpoint  the verbs
expiry    forgetting what nobody finished
"""
