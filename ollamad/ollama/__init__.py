"""What Ollama is: how one is run, how it is asked, what it prints, what its routes and names mean."""
