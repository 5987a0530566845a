"""Views: widgets that show a model and pass on what is clicked."""
