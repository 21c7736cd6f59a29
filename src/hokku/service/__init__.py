"""What the platform does. Every wire calls the same use cases; nobody here knows HTTP."""
