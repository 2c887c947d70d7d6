package main

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// tries counts on how many connections the transport put a request: it sends one again by itself only where a kept
// connection was closed before anything of the answer came.
type tries struct{ connections atomic.Int64 }

func (t *tries) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { t.connections.Add(1) },
	})
}

func (t *tries) resent() int64 { return max(0, t.connections.Load()-1) }
