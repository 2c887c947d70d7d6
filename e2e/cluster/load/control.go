package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"sync"
	"time"
)

// ledger holds what the control port tells: where every session is, and every event.
type ledger struct {
	lock   sync.Mutex
	places map[int]Place
	events []Event
}

// Place is where a session was served last.
type Place struct {
	Key  string `json:"key"`
	Pod  string `json:"pod"`
	Sent int64  `json:"sent"` // when that request was sent
}

func (l *ledger) put(session int, place Place) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.places[session] = place
}

func (l *ledger) add(event Event) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.events = append(l.events, event)
}

// serve answers GET /state and /events with JSON, and POST or GET /stop by ending the load. The API server's proxy of
// this pod reaches it, so nothing else must.
func (l *load) serve(address string, stop context.CancelFunc) {
	mux := http.NewServeMux()
	mux.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) {
		l.ledger.lock.Lock()
		defer l.ledger.lock.Unlock()
		reply(w, map[string]any{"now": time.Now().UnixMilli(), "done": l.done.Load(), "totals": l.totals(), "sessions": l.ledger.places})
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		l.ledger.lock.Lock()
		defer l.ledger.lock.Unlock()
		reply(w, l.ledger.events)
	})
	mux.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) {
		stop()
		reply(w, "stopping")
	})
	log.Fatal(http.ListenAndServe(address, mux))
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}
