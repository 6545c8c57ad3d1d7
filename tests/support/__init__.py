"""What tests stand on, and the product does not: simulators and servers."""
