"""Views: widgets that show a model and call its methods."""
