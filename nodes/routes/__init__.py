"""The pack's HTTP routes: who may call (`access`), request bodies (`request_body`), handlers (`live`)."""
