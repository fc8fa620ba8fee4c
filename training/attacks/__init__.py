"""Attacks: frozen values that turn images and labels into adversarial images."""
