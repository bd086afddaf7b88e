package keyset

import "time"

// Age makes the Source believe that its latest fetch began and ended d
// earlier. It exists for tests of what happens when that time has passed.
func (s *Source) Age(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = s.began.Add(-d)
	if snap := s.Current(); snap != nil {
		older := *snap
		older.Fetched, older.Fresh = older.Fetched.Add(-d), older.Fresh.Add(-d)
		s.current.Store(&older)
	}
}
