"""Mathematical functions as arithmetic."""
