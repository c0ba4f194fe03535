"""The JavaScript libraries that `maskgan study` and `maskgan page` serve beside their own files, from the npm registry."""
