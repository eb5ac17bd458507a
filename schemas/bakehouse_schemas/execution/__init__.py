"""What is executed, and with what probability: exploration, mask, floor and the draw."""
