"""The S3 protocol (contract storage.md §9): buckets and objects of this service by the tools that know Amazon S3.

signature    Signature Version 4: what was signed, and what it should have been (pure)
credentials  whose signature it is
chunked      bodies in signed or unsigned chunks, as the SDKs stream them
payload      a request's body as the write path takes it, with its checksums
documents    XML in and out
buckets · listing · objects · multipart · forms    the operations
endpoint     which request is which operation
"""
