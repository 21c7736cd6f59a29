"""Replies of other services, as events of ours. Imported only where a fallback names a URL.

What comes from there is untrusted: it is bounded in size and time, checked, and put into the one order of events that
the rest of the house relies on.
"""
