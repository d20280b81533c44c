// A client in Go: reads a conversation, and sends what is given until it has come back. Needs gorilla/websocket.
//
//	go run chat.go ws://localhost:8081/ws alice group_lobby "Hello" "Anyone here?"
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"math/rand"
	"net/url"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

type object = map[string]any

// packet has what is needed of frames, messages, events and refusals.
type packet struct {
	Cmd, Code      int
	Type, Content  string
	Seq            int64
	MsgID          string `json:"msg_id"`
	SenderID       string `json:"sender_id"`
	ConversationID string `json:"conversation_id"`
	NextCursorSeq  int64  `json:"next_cursor_seq"`
	HasMore        bool   `json:"has_more"`
	RetryAfterMs   int64  `json:"retry_after_ms"`
	Payload        json.RawMessage
}

var (
	conversation = os.Args[3]
	unsent       []object            // one at a time is sent, so that retries keep the order
	unseen       = map[string]bool{} // own messages that have not come back
	cursor       int64               // a program that is started again keeps this on disk
)

// ask sends the next message (cmd 2) or pulls (cmd 3). A write that fails shows as a read that fails.
func ask(socket *websocket.Conn, cmd int) {
	if cmd == 3 {
		_ = socket.WriteJSON(object{"cmd": 3, "conversation_id": conversation, "cursor_seq": cursor})
	} else if len(unsent) > 0 {
		_ = socket.WriteJSON(unsent[0])
	}
}

func receive(socket *websocket.Conn, f packet) {
	details, messages := packet{RetryAfterMs: 1000}, []packet{}
	_, _ = json.Unmarshal(f.Payload, &details), json.Unmarshal(f.Payload, &messages) // an object, a list, or a sentence
	switch {
	case f.Code == 429 || f.Code == 500 || f.Code == 503: // the same again, with the same msg_id
		time.Sleep(time.Duration(details.RetryAfterMs) * time.Millisecond)
		ask(socket, f.Cmd)
	case f.Cmd == 2:
		if len(unsent) > 0 && unsent[0]["msg_id"] == f.MsgID {
			unsent = unsent[1:]
		}
		if f.Code != 0 { // also as a second answer, after the message was accepted
			fmt.Printf("refused with %d: %s\n", f.Code, f.Payload)
			delete(unseen, f.MsgID)
		}
		ask(socket, 3) // own messages are not pushed to the connection that sent them
		ask(socket, 2)
	case f.Code != 0:
		log.Fatalf("refused with %d: %s", f.Code, f.Payload)
	case f.Cmd == 3 || f.Cmd == 5 && f.ConversationID == conversation:
		for _, m := range messages {
			if f.Cmd == 5 && m.Seq > cursor+1 { // a gap, which only a pull may skip
				ask(socket, 3)
				return
			}
			if m.Seq > cursor {
				fmt.Printf("%s: %s\n", m.SenderID, m.Content)
				delete(unseen, m.MsgID)
				cursor = m.Seq
			}
		}
		if f.NextCursorSeq > cursor {
			cursor = f.NextCursorSeq
		}
	}
	if f.HasMore || details.Type == "resync" {
		ask(socket, 3)
	}
}

// talk returns when the connection has ended, or without an error when nothing is left to do.
func talk(address string, delay *time.Duration) error {
	socket, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		return err
	}
	defer socket.Close()
	frames, failed := make(chan packet), make(chan error, 1)
	go func() {
		for {
			var f packet
			if err := socket.ReadJSON(&f); err != nil {
				failed <- err
				return
			}
			frames <- f
		}
	}()
	ask(socket, 3) // what was missed
	for ask(socket, 2); len(os.Args) == 4 || len(unseen) > 0; {
		select {
		case f := <-frames:
			receive(socket, f)
			*delay = 500 * time.Millisecond
		case err := <-failed:
			return err
		case <-time.After(30 * time.Second): // a sign of life, and the last push may have been lost
			ask(socket, 3)
		}
	}
	return nil
}

func main() {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for _, text := range os.Args[4:] {
		id := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		payload := object{"content": text, "ack": "stored"}
		unsent = append(unsent, object{"cmd": 2, "msg_id": id, "conversation_id": conversation, "payload": payload})
		unseen[id] = true
	}
	for delay := 500 * time.Millisecond; ; {
		err := talk(os.Args[1]+"?user_id="+url.QueryEscape(os.Args[2]), &delay)
		if err == nil {
			return
		}
		if websocket.IsCloseError(err, 1002, 1007, 4400, 4401, 4403, 4409, 4429) { // reconnecting is of no use
			log.Fatal(err)
		}
		wait := delay.Milliseconds()
		if closed, is := err.(*websocket.CloseError); is {
			_, _ = fmt.Sscanf(closed.Text, "retry_after_ms=%d", &wait) // otherwise it stays
		}
		time.Sleep(time.Duration(wait+random.Int63n(wait/2+1)) * time.Millisecond)
		if delay < 30*time.Second {
			delay *= 2
		}
	}
}
