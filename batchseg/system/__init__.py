"""The machine and the storages: processes, threads, temporary folders, disks, bytes by URI.

Enters: URIs, paths, functions to call elsewhere. Leaves: bytes, listings, answers, or OSError, or an error of
errors.py. It knows nothing of rasters, models or jobs, and imports nothing of batchseg but the errors.
`location` says where something is, `storage` makes the clients, `fetch` gives bytes, `file_info`, `listing`
and `walk` say what lies where, `retry` says what is asked again: a new error of a storage goes there, or to
`storage` if it is about credentials. `json_text` and `yaml_text` read what others
wrote.
"""
