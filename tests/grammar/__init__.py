"""The grammar room: schemas, and what llguidance makes of them."""
