"""The values and ports everybody speaks; imports nothing of ours."""
