"""What tests of the gateway, of its plugins and of its clients can build on. Shipped with the product."""
