package grpcout

import (
	"container/list"
	"context"
	"sync"
)

// places is a semaphore whose size can change. Those that come first go first. The zero value has any number. Safe for concurrent use.
type places struct {
	mu      sync.Mutex
	size    int // 0: any
	taken   int
	waiting list.List // chan struct{}, closed when its owner has a place
}

// set changes how many there are. Those that are taken stay so.
func (s *places) set(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = size
	s.letIn()
}

func (s *places) free() bool { return s.size <= 0 || s.taken < s.size }

// letIn gives places to those who wait. It is called under mu.
func (s *places) letIn() {
	for first := s.waiting.Front(); first != nil && s.free(); first = s.waiting.Front() {
		s.taken++
		close(s.waiting.Remove(first).(chan struct{}))
	}
}

func (s *places) tryTake() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Len() > 0 || !s.free() {
		return false
	}
	s.taken++
	return true
}

// take waits for a place until ctx ends.
func (s *places) take(ctx context.Context) error {
	if s.tryTake() {
		return nil
	}
	s.mu.Lock()
	mine := make(chan struct{})
	place := s.waiting.PushBack(mine)
	s.letIn() // one may have become free since
	s.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-mine: // meanwhile
		s.taken--
		s.letIn()
	default:
		s.waiting.Remove(place)
		s.letIn()
	}
	return ctx.Err()
}

func (s *places) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.letIn()
}
