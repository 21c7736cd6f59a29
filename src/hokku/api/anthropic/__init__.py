"""The Anthropic wire: Messages, token counting and the Models API, in both live API versions."""
