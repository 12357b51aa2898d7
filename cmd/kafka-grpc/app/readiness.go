package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor"
	"kafkagrpc/views"
)

const (
	// pingAge is how often Kafka is asked whether it is there, at most: each time takes a connection.
	pingAge = 5 * time.Second
	// diskAge is how often it is tried whether the state folder can be written, at most.
	diskAge = 5 * time.Second
)

// addPart names a part in /readyz.
func (a *App) addPart(p admin.Part) {
	if a.admin != nil {
		a.admin.AddPart(p)
	}
}

// setIdle says why the app does not serve; "": it does.
func (a *App) setIdle(reason string) { a.idle.Store(&reason) }

func (a *App) serves(context.Context) error { return because(*a.idle.Load()) }

// because is the error of a part that is not ready for a reason.
func because(reason string) error {
	if reason == "" {
		return nil
	}
	return errors.New(reason)
}

// listenerPart asks whether a port of the server in front takes connections.
func listenerPart(binding string, addr net.Addr) admin.Part {
	return admin.Part{Name: "listener " + binding + " " + addr.String(), MaxAge: pingAge, Check: func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, addr.Network(), addr.String())
		if err != nil {
			return fmt.Errorf("it takes no connections: %w", err)
		}
		return c.Close()
	}}
}

// stateFolderPart asks whether the state folder can be written: without, no call is executed, also where none was tried yet.
func stateFolderPart(dir string) admin.Part {
	return admin.Part{Name: "state folder", MaxAge: diskAge, Check: func(context.Context) error { return tablestore.Check(dir) }}
}

// viewPart tells what a view waits for. An instance that has more than views works without.
func viewPart(table *views.Table, only bool) admin.Part {
	part := admin.Part{Name: "view " + table.Group(), Check: func(context.Context) error { return nil }, Note: table.NotReady}
	if only {
		part.Note, part.Check = nil, func(context.Context) error { return because(table.NotReady()) }
	}
	return part
}

func processorPart(binding string, p *processor.Processor) admin.Part {
	return admin.Part{Name: "processor " + binding, Check: func(context.Context) error {
		if s := p.State(); !s.Ready {
			return errors.New(s.Reason)
		}
		return nil
	}, Note: func() string { return topicNotes(p.State()) }}
}

// topicNotes tells which topics a processor does without, and why, and which have more partitions than the group.
func topicNotes(s processor.State) string {
	var topics []string
	for _, topic := range slices.Sorted(maps.Keys(s.LeftOut)) {
		topics = append(topics, fmt.Sprintf("topic %s is left out: %v", topic, s.LeftOut[topic]))
	}
	for _, topic := range slices.Sorted(maps.Keys(s.Surplus)) {
		topics = append(topics, fmt.Sprintf("topic %s has more partitions than the group: %s", topic, s.Surplus[topic]))
	}
	return strings.Join(topics, "; ")
}
