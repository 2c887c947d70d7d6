// Load keeps many sessions busy through a gateway, from a pod, and writes what happened to them as lines of JSON.
//
// Every session has a key of its own: a cookie that the gateway gave it, or a header that it chose. A line is written for
// what is worth knowing only: a session's first pod, its move to another pod, a request that failed, and totals every ten
// seconds. It ends on SIGTERM, on /stop of its control port or after -for, with a line of final totals; with a control
// port the process then stays, for the port to be asked, until SIGTERM.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Event is one line. Times are milliseconds since 1970 on this machine's clock.
type Event struct {
	Time    int64  `json:"t"`
	Kind    string `json:"kind"` // first, move, fail, totals, done
	Session int    `json:"s,omitempty"`
	Key     string `json:"key,omitempty"`
	Pod     string `json:"pod,omitempty"`
	From    string `json:"from,omitempty"`
	Sent    int64  `json:"sent,omitempty"` // when the request was sent
	Error   string `json:"error,omitempty"`
	Path    string `json:"path,omitempty"`
	*Totals
}

// Totals count since the start.
type Totals struct {
	Requests  int64 `json:"requests"`
	Failed    int64 `json:"failed"`
	Resent    int64 `json:"resent"` // an idle connection was closed under the request; sent again on another (RFC 9110 9.2.2)
	Moved     int64 `json:"moved"`
	SlowestMs int64 `json:"slowest_ms"`
}

type session struct {
	number int
	key    string
	pod    string
}

type load struct {
	url, host, cookie, header string
	slow                      string
	timeout                   time.Duration
	requests, failed          atomic.Int64
	resent, moved, slowest    atomic.Int64
	done                      atomic.Bool
	out                       sync.Mutex
	ledger                    ledger
}

func main() {
	var (
		l           load
		sessions    = flag.Int("sessions", 100, "how many keys")
		connections = flag.Int("connections", 8, "kept connections that the sessions share")
		rate        = flag.Float64("rate", 200, "requests a second in all")
		slowEvery   = flag.Duration("slow-every", 0, "beside them, start a slow request this often; 0: none")
		length      = flag.Duration("for", 0, "end after this; 0: on SIGTERM")
		control     = flag.String("control", "", "`address` of the control port: /state, /events, /stop")
		once        = flag.String("get", "", "ask once for this path, print the answer as it comes, and end")
	)
	flag.StringVar(&l.url, "url", "", "`http://ADDRESS:PORT` of the gateway")
	flag.StringVar(&l.host, "host", "", "Host header")
	flag.StringVar(&l.cookie, "cookie", "", "name of the gateway's cookie")
	flag.StringVar(&l.header, "header", "", "name of the header that carries a session's key")
	flag.StringVar(&l.slow, "slow", "/delay/3", "path of the slow requests")
	flag.DurationVar(&l.timeout, "timeout", 20*time.Second, "after which a request has failed")
	flag.Parse()
	log.SetFlags(0)
	if l.url == "" || l.host == "" {
		log.Fatal("load: -url and -host are needed")
	}
	if *once != "" {
		if err := l.get(*once); err != nil {
			log.Fatal(err)
		}
		return
	}
	if (l.cookie == "") == (l.header == "") {
		log.Fatal("load: one of -cookie and -header is needed")
	}
	l.ledger.places = map[int]Place{}
	alive, end := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer end()
	ctx, stop := context.WithCancel(alive)
	defer stop()
	if *control != "" {
		go l.serve(*control, stop)
	}
	if *length > 0 {
		ended, cancel := context.WithTimeout(ctx, *length)
		defer cancel()
		ctx = ended
	}
	l.run(ctx, *sessions, *connections, *rate, *slowEvery)
	if *control != "" {
		<-alive.Done()
	}
}

func (l *load) run(ctx context.Context, sessions, connections int, rate float64, slowEvery time.Duration) {
	var working sync.WaitGroup
	for n := range connections {
		var mine []*session
		for s := n; s < sessions; s += connections {
			mine = append(mine, &session{number: s + 1})
		}
		working.Go(func() { l.drive(ctx, mine, time.Duration(float64(time.Second)*float64(connections)/rate)) })
	}
	if slowEvery > 0 {
		working.Go(func() { l.driveSlow(ctx, slowEvery) })
	}
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			l.write(Event{Kind: "totals", Totals: l.totals()})
		case <-ctx.Done():
		}
	}
	working.Wait()
	l.done.Store(true)
	l.write(Event{Kind: "done", Totals: l.totals()})
}

// drive asks for one session after the other over one kept connection, at a steady pace.
func (l *load) drive(ctx context.Context, mine []*session, pause time.Duration) {
	client := l.client()
	due := time.Now()
	for len(mine) > 0 {
		for _, s := range mine {
			// After a stall, catch up on a second at most.
			if due = due.Add(pause); time.Since(due) > time.Second {
				due = time.Now().Add(-time.Second)
			}
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return
			}
			if s.key == "" && l.cookie != "" {
				// The gateway makes a cookie from the connection's addresses: one connection, one cookie.
				l.ask(l.client(), s)
			} else {
				l.ask(client, s)
			}
		}
	}
}

// driveSlow starts requests that take seconds, each on a connection of its own, and lets all of them end.
func (l *load) driveSlow(ctx context.Context, every time.Duration) {
	var open sync.WaitGroup
	for ctx.Err() == nil {
		open.Go(func() {
			sent := time.Now()
			l.requests.Add(1)
			if _, _, err := l.try(l.client(), l.slow, ""); err != nil {
				l.fail(Event{Sent: sent.UnixMilli(), Error: err.Error(), Path: l.slow})
			}
		})
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
	open.Wait()
}

func (l *load) client() *http.Client {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		DisableCompression:  true,
		MaxConnsPerHost:     1,
		MaxIdleConnsPerHost: 1,
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, Timeout: l.timeout, CheckRedirect: refuse}
}

func (l *load) ask(client *http.Client, s *session) {
	sent := time.Now()
	key := s.key
	if l.header != "" {
		key = fmt.Sprintf("session-%d", s.number)
	}
	l.requests.Add(1)
	body, given, err := l.try(client, "/hostname", key)
	took := time.Since(sent).Milliseconds()
	for slowest := l.slowest.Load(); took > slowest && !l.slowest.CompareAndSwap(slowest, took); {
		slowest = l.slowest.Load()
	}
	var answer struct{ Hostname string }
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err == nil && l.cookie != "" {
		switch {
		case s.key == "" && given == "":
			err = errors.New("no cookie was set")
		case s.key == "":
			client.CloseIdleConnections()
		}
		// A cookie that carries a tag is renewed when its pod is gone.
		if given != "" {
			s.key = given
		}
	}
	if err != nil {
		l.fail(Event{Session: s.number, Sent: sent.UnixMilli(), Error: err.Error(), Path: "/hostname"})
		return
	}
	if l.header != "" {
		s.key = key
	}
	l.ledger.put(s.number, Place{Key: s.key, Pod: answer.Hostname, Sent: sent.UnixMilli()})
	if s.pod != answer.Hostname {
		kind := "first"
		if s.pod != "" {
			kind = "move"
			l.moved.Add(1)
		}
		l.write(Event{Kind: kind, Session: s.number, Key: s.key, Pod: answer.Hostname, From: s.pod, Sent: sent.UnixMilli()})
		s.pod = answer.Hostname
	}
}

// try asks once, and again if a kept connection was closed under the request before anything of the answer came.
// Returns the body and the value of the cookie that was set.
func (l *load) try(client *http.Client, path, key string) ([]byte, string, error) {
	request, err := http.NewRequest(http.MethodGet, l.url+path, nil)
	if err != nil {
		return nil, "", err
	}
	request.Host = l.host
	if key != "" && l.cookie != "" {
		request.Header.Set("Cookie", l.cookie+"="+key)
	} else if key != "" {
		request.Header.Set(l.header, key)
	}
	tries := &tries{}
	response, err := client.Do(request.WithContext(tries.trace(request.Context())))
	l.resent.Add(tries.resent())
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, "", fmt.Errorf("the answer broke off: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("status %d: %.80s", response.StatusCode, bytes.TrimSpace(body))
	}
	return body, l.given(response.Header), nil
}

// given is the raw value of the gateway's cookie, with its quotes, as browsers and curl send it back.
func (l *load) given(header http.Header) string {
	for _, line := range header.Values("Set-Cookie") {
		if value, ok := strings.CutPrefix(line, l.cookie+"="); ok && l.cookie != "" {
			value, _, _ = strings.Cut(value, ";")
			return value
		}
	}
	return ""
}

// get prints one answer: for checks by hand and for clusters without an address from outside.
func (l *load) get(path string) error {
	request, err := http.NewRequest(http.MethodGet, l.url+path, nil)
	if err != nil {
		return err
	}
	request.Host = l.host
	response, err := l.client().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Printf("%s %s\n", response.Proto, response.Status)
	if err := response.Header.Write(os.Stdout); err != nil {
		return err
	}
	fmt.Println()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func (l *load) fail(event Event) {
	l.failed.Add(1)
	event.Kind = "fail"
	l.write(event)
}

func (l *load) totals() *Totals {
	return &Totals{l.requests.Load(), l.failed.Load(), l.resent.Load(), l.moved.Load(), l.slowest.Load()}
}

func (l *load) write(event Event) {
	event.Time = time.Now().UnixMilli()
	if event.Totals == nil {
		l.ledger.add(event)
	}
	line, err := json.Marshal(event)
	if err != nil {
		log.Fatal(err)
	}
	l.out.Lock()
	defer l.out.Unlock()
	os.Stdout.Write(append(line, '\n'))
}
