"""What people attach: files named by a URL, pages of PDFs, images, and passages that a reply can be shown to rest on.

Everything here reads bytes that strangers chose, so each file states its limits in time and memory and keeps them. A
request's attachments come here by way of `service/attachments.py`.
"""
