"""Token buckets: how much a minute, in this process's memory or in a Valkey that several processes share."""
