"""What algorithms share: networks, critics, linear statistics, what a bundle carries of them."""
