"""What operators and monitors see: the dashboard, its verdict, status and metrics."""
