"""The Model Context Protocol: tools by which agents search photos. The extra ``mcp``."""
