"""Endings of the names of the files that are opened, in small letters.

Whoever only looks at what lies in a folder reads them here and loads no decoder.
"""

# The one list of what is opened: names of a container's files, by FFmpeg's names of its reader.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mj2"),
    "matroska,webm": (".mkv", ".mk3d", ".webm"),
    "avi": (".avi", ".divx"),
    "mpegts": (".ts", ".m2ts", ".mts", ".m2t"),
    "mpeg": (".mpg", ".mpeg", ".mpe", ".vob", ".m2p"),
    "flv": (".flv",),
    "asf": (".wmv", ".asf"),
    "ogg": (".ogv", ".ogg", ".ogm"),
    "gif": (".gif",),
}
VIDEOS = tuple(suffix for names in CONTAINERS.values() for suffix in names)
"""Of video files: any of them is opened."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".exr")
"""Of pictures."""
