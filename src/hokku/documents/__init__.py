"""What people attach: files named by a URL, pages of a PDF, and passages that a reply can be shown to rest on.

Everything here reads bytes that strangers chose, so each file states its limits in time and memory and keeps them.
The Messages API still refuses `document` blocks by name; this room is what it will serve them with.
"""
