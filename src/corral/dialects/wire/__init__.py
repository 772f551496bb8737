"""What OpenAI's two chat dialects share: parts of a message, tools, formats, options. Knows no request and no answer."""
