"""HTTP `/api/v1`: one table of routes, one wall before it, problem documents for whatever goes wrong."""
