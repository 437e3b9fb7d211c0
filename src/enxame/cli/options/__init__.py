"""The little languages of flag values: sizes, durations, mounts, ports, networks…, parsed to the API's JSON."""
