"""Images made smaller on their way out (contract storage.md §4).

layout     which part of the source goes where: geometry alone (pure)
rendering  bytes to bytes, by libvips or else by Pillow
cache      results on disk, as many as fit
routes     the HTTP side
"""
