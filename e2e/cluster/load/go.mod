module clingfish.dev/e2e/load

go 1.26
