"""What `bakehouse init` writes: working pages, named `my-game`, and a test of any of them."""
