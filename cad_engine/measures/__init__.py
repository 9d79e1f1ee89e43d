"""What pictures are measured by: whether they show a concept, and how well they fit their prompts."""
