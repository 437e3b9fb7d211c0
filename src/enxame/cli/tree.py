"""Every noun and top-level command: where its code is, and its line in the help. Nothing is imported here."""

from typing import Final

Entry = tuple[str, str]

MANAGEMENT: Final[dict[str, Entry]] = {
    "cluster": ("cluster:group", "Manage swarms of machines on this host"),
    "builder": ("image.build:builder", "Manage builds"),
    "config": ("config:group", "Manage swarm configs"),
    "context": ("context:group", "Manage contexts"),
    "container": ("container:group", "Manage containers"),
    "image": ("image:group", "Manage images"),
    "machine": ("machine:group", "Manage machines: hosts that run the daemon"),
    "network": ("network:group", "Manage networks"),
    "node": ("node:group", "Manage swarm nodes"),
    "secret": ("secret:group", "Manage swarm secrets"),
    "service": ("service:group", "Manage services"),
    "swarm": ("swarm:group", "Manage the swarm"),
    "system": ("system:group", "Manage the daemon"),
    "volume": ("volume:group", "Manage volumes"),
}

COMMANDS: Final[dict[str, Entry]] = {
    "attach": (
        "container.attach:command_",
        "Attach local standard input, output, and error streams to a running container",
    ),
    "build": ("image.build:build", "Build an image from a Dockerfile"),
    "commit": ("container.archives:commit", "Create a new image from a container's changes"),
    "completion": ("complete:completion", "Print the completion script for a shell"),
    "cp": ("container.copy:cp", "Copy files/folders between a container and the local filesystem"),
    "create": ("container.run:create", "Create a new container"),
    "diff": ("container.view:diff", "Inspect changes to files or directories on a container's filesystem"),
    "events": ("events:events", "Get real time events from the server"),
    "exec": ("container.exec:exec_", "Run a command in a running container"),
    "export": ("container.archives:export", "Export a container's filesystem as a tar archive"),
    "history": ("image.manage:history", "Show the history of an image"),
    "images": ("image.list:ls", "List images"),
    "import": ("image.transfer:import_", "Import the contents from a tarball to create a filesystem image"),
    "info": ("info:info", "Display system-wide information"),
    "inspect": ("inspect:inspect", "Return low-level information on objects"),
    "kill": ("container.lifecycle:kill", "Kill one or more running containers"),
    "load": ("image.transfer:load_", "Load an image from a tar archive or STDIN"),
    "logs": ("container.logs:logs", "Fetch the logs of a container"),
    "pause": ("container.lifecycle:pause", "Pause all processes within one or more containers"),
    "port": ("container.view:port", "List port mappings or a specific mapping for the container"),
    "ps": ("container.list:ls", "List containers"),
    "pull": ("image.transfer:pull", "Pull an image or a repository from a registry"),
    "push": ("image.transfer:push", "Push an image or a repository to a registry"),
    "rename": ("container.lifecycle:rename", "Rename a container"),
    "restart": ("container.lifecycle:restart", "Restart one or more containers"),
    "rm": ("container.lifecycle:rm", "Remove one or more containers"),
    "rmi": ("image.manage:rmi", "Remove one or more images"),
    "run": ("container.run:run", "Create and run a new container from an image"),
    "save": ("image.transfer:save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "start": ("container.start:start", "Start one or more stopped containers"),
    "stats": ("container.stats:stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("container.lifecycle:stop", "Stop one or more running containers"),
    "tag": ("image.manage:tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "top": ("container.view:top", "Display the running processes of a container"),
    "unpause": ("container.lifecycle:unpause", "Unpause all processes within one or more containers"),
    "update": ("container.update:update", "Update configuration of one or more containers"),
    "version": ("version:version", "Show the version information"),
    "wait": ("container.lifecycle:wait", "Block until one or more containers stop, then print their exit codes"),
}

HIDDEN: Final[dict[str, Entry]] = {}
