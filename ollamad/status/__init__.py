"""What operators and monitors see."""
