"""How the product is shipped and watched: image, Kubernetes, Prometheus, Grafana. Not part of the installed package."""
