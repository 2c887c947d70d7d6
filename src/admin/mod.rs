//! /metrics, /livez, /readyz, /config, /explain and the page.
