"""Asks about a picture: `python examples/look_at_a_picture.py [PICTURE [QUESTION]]`.

The official SDK finds the server by ANTHROPIC_BASE_URL and the key by ANTHROPIC_API_KEY.
"""

import base64
import mimetypes
import sys
from pathlib import Path

from anthropic import Anthropic, APIStatusError

picture = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("red_circle.png")
question = sys.argv[2] if len(sys.argv) > 2 else "What colour is the circle?"
image = {
    "type": "base64",
    "media_type": mimetypes.guess_type(picture)[0],
    "data": base64.b64encode(picture.read_bytes()).decode(),
}
content = [{"type": "image", "source": image}, {"type": "text", "text": question}]
messages = [{"role": "user", "content": content}]
model = "claude-3-5-haiku-latest"

client = Anthropic()
try:
    counted = client.messages.count_tokens(model=model, messages=messages)
    message = client.messages.create(model=model, max_tokens=60, messages=messages)
except APIStatusError as refusal:
    sys.exit(refusal.body["error"]["message"])
print(f"{question} ({counted.input_tokens} tokens with the picture)")
print(message.content[0].text)
