"""The language of aws-api-mcp-server: its commands, its answers and errors, and its launcher."""
