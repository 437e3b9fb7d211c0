"""The files of containers: copied in and out, exported, compared with their image's."""
