// A client in Go: reads one conversation and sends what is given. Needs github.com/gorilla/websocket.
//
//	go run chat.go ws://localhost:8081/ws alice group_lobby "Hello" "Anyone here?"
//
// Ends when its own messages have come back; without messages it reads until Ctrl-C.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	mathrand "math/rand"
	"net/url"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

type message struct {
	MsgID    string `json:"msg_id"`
	Seq      int64  `json:"seq"`
	SenderID string `json:"sender_id"`
	Content  string `json:"content"`
}

type frame struct {
	Cmd            int             `json:"cmd"`
	Code           int             `json:"code"`
	MsgID          string          `json:"msg_id"`
	ConversationID string          `json:"conversation_id"`
	NextCursorSeq  int64           `json:"next_cursor_seq"`
	HasMore        bool            `json:"has_more"`
	Payload        json.RawMessage `json:"payload"`
}

type object = map[string]any

type chat struct {
	socket       *websocket.Conn
	conversation string
	unsent       []object        // one at a time is sent, so that retries keep the order
	unseen       map[string]bool // own messages that have not come back
	cursor       int64           // a program that is started again keeps this on disk
	delay        time.Duration   // before the next attempt to connect; grows with each
}

const (
	delayFirst = 500 * time.Millisecond
	delayMost  = 30 * time.Second
)

func newID() string {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes)
	return fmt.Sprintf("%x", bytes)
}

func (c *chat) pull() error {
	return c.socket.WriteJSON(object{"cmd": 3, "conversation_id": c.conversation, "cursor_seq": c.cursor})
}

func (c *chat) send() error {
	if len(c.unsent) == 0 {
		return nil
	}
	return c.socket.WriteJSON(c.unsent[0])
}

// retryable says whether the same request may be sent again, and waits as long as the server asks for.
func retryable(f frame) bool {
	if f.Code != 429 && f.Code != 500 && f.Code != 503 {
		return false
	}
	delay := struct {
		Ms int `json:"retry_after_ms"`
	}{1000}
	_ = json.Unmarshal(f.Payload, &delay)
	time.Sleep(time.Duration(delay.Ms) * time.Millisecond)
	return true
}

func (c *chat) show(f frame, gaps bool) (gap bool) {
	var messages []message
	if err := json.Unmarshal(f.Payload, &messages); err != nil {
		log.Fatal(err)
	}
	for _, m := range messages {
		if m.Seq <= c.cursor {
			continue
		}
		if !gaps && m.Seq > c.cursor+1 {
			return true
		}
		if m.Content != "" {
			fmt.Printf("%s: %s\n", m.SenderID, m.Content)
		}
		delete(c.unseen, m.MsgID)
		c.cursor = m.Seq
	}
	return false
}

func (c *chat) receive(f frame) error {
	switch {
	case f.Cmd == 2 && len(c.unsent) > 0 && f.MsgID == c.unsent[0]["msg_id"]:
		if retryable(f) {
			return c.send()
		}
		if f.Code != 0 {
			fmt.Printf("refused with %d: %s\n", f.Code, f.Payload)
			delete(c.unseen, f.MsgID)
		}
		c.unsent = c.unsent[1:]
		if err := c.pull(); err != nil { // own messages are not pushed
			return err
		}
		return c.send()
	case f.Cmd == 3 && f.Code == 0:
		c.show(f, true)
		if len(c.unseen) > 0 && len(c.unsent) == 0 && !f.HasMore {
			time.Sleep(200 * time.Millisecond)
			return c.pull()
		}
		if f.HasMore {
			return c.pull()
		}
	case f.Cmd == 3:
		if !retryable(f) {
			log.Fatalf("refused with %d: %s", f.Code, f.Payload)
		}
		return c.pull()
	case f.Cmd == 5 && f.ConversationID == c.conversation:
		if c.show(f, false) {
			return c.pull() // a gap
		}
	case f.Cmd == 7:
		var event struct{ Type string }
		if _ = json.Unmarshal(f.Payload, &event); event.Type == "resync" {
			return c.pull()
		}
	}
	return nil
}

// once connects and reads until the connection ends, or until there is nothing left to do.
func (c *chat) once(address string, forever bool) (err error) {
	if c.socket, _, err = websocket.DefaultDialer.Dial(address, nil); err != nil {
		return err
	}
	defer c.socket.Close()
	c.delay = delayFirst
	if err = c.pull(); err != nil { // what was missed
		return err
	}
	if err = c.send(); err != nil {
		return err
	}
	// A ping every 30 s is a sign of life; unlike other writes it may come from a second goroutine.
	done := make(chan struct{})
	defer close(done)
	go func(socket *websocket.Conn) {
		for {
			select {
			case <-done:
				return
			case <-time.After(30 * time.Second):
				_ = socket.WriteControl(websocket.PingMessage, nil, time.Now().Add(10*time.Second))
			}
		}
	}(c.socket)
	for forever || len(c.unseen) > 0 {
		var f frame
		if err = c.socket.ReadJSON(&f); err != nil {
			return err
		}
		if err = c.receive(f); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: chat URL USER CONVERSATION [TEXT…]")
	}
	query := url.Values{"user_id": {os.Args[2]}, "device_id": {"example-" + newID()[:8]}}
	c := &chat{conversation: os.Args[3], unseen: map[string]bool{}}
	for _, text := range os.Args[4:] {
		id := newID()
		c.unseen[id] = true
		payload := object{"content": text}
		c.unsent = append(c.unsent, object{"cmd": 2, "msg_id": id, "conversation_id": c.conversation, "payload": payload})
	}
	for c.delay = delayFirst; ; c.delay = min(2*c.delay, delayMost) {
		err := c.once(os.Args[1]+"?"+query.Encode(), len(os.Args) == 4)
		if err == nil {
			return
		}
		// Closed with one of these: reconnecting is of no use.
		if websocket.IsCloseError(err, 1002, 1007, 4400, 4401, 4403, 4409, 4429) {
			log.Fatal(err)
		}
		time.Sleep(c.delay/2 + time.Duration(mathrand.Int63n(int64(c.delay/2))))
	}
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
