"""Drives Message Batches of a live server through the SDK of the model's own days; prints what it read, as JSON.

Usage: python drive_batches.py BASE_URL KEY MODEL, with the interpreter of the environment beside this file.
"""

import json
import sys
import time
from typing import Any

import anthropic

base_url, key, model = sys.argv[1:]
client: Any = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
batches = client.beta.messages.batches
params = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
made = batches.create(requests=[{"custom_id": f"r{number}", "params": params} for number in range(3)])
while (batch := batches.retrieve(made.id)).processing_status != "ended":
    time.sleep(0.05)
results = [line.model_dump() for line in batches.results(made.id)]
listed = [each.id for each in batches.list(limit=1)]
canceled = batches.cancel(made.id)
print(json.dumps({"made": made.id, "batch": json.loads(batch.json()), "results": results, "listed": listed}))
