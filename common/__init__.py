"""What two or more programs need; imports none of them."""
