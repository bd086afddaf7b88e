package telemetry

// ForgetServices makes room for new ones: other tests may have used it up.
func ForgetServices() {
	services.Lock()
	defer services.Unlock()
	services.known = nil
}
