"""What people and monitors see: the page, the verdict, status and metrics."""
