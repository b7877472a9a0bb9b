"""What stands above models and engine, for tools and users."""
