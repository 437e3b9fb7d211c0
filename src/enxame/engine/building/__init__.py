"""Building images from Dockerfiles: buildah runs the instructions, this package feeds it and takes the result."""
