/* The article's page: what "Django push: Using Server-Sent Events and WebSocket with Django" by Flavio Curella has its readers write. */
socket = io.connect('', {  // first argument is the namespace
  transports: ['websocket', 'xhr-multipart', 'xhr-polling', 'jsonp-polling']  // note ``flashsockets`` is missing
});

socket.on("myevent", function(e) {
  console.log("<myevent> event", arguments);
});
socket.on("message", function(e) {
  console.log("Message", e);
});

socket.on("joined", function(e) {
  console.log("joined", arguments);
});

socket.on("connect", function(e) {
  console.log("Connected", arguments);
  socket.emit('subscribe', 'default_room');
});

socket.on("disconnect", function(e) {
  console.log("Disconnected", arguments);
});
