"""A page for logged-in users, and the answer to the hub's question who they are."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LogoutView
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from . import callboard

TOKEN_SECONDS = 3600


@login_required
def board(request):
    """The page. With a token in a cookie the hub knows the user without asking; with forward auth it needs none."""
    name = request.user.get_username()
    response = render(request, "board.html", {"name": name, "hub": settings.CALLBOARD_URL})
    response.set_cookie("callboard_token", callboard.token(name, TOKEN_SECONDS), max_age=TOKEN_SECONDS, httponly=True, samesite="Lax")
    return response


class Logout(LogoutView):
    """The token goes with the session. It is valid until it expires, so keep its life short, or use forward auth."""

    def post(self, request, *args, **kwargs):
        response = super().post(request, *args, **kwargs)
        response.delete_cookie("callboard_token")
        return response


@require_GET
def who(request):
    """Forward auth: the hub passes the browser's cookies on, and Django's session says whose they are."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    return JsonResponse({"user": request.user.get_username(), "join": ["team/*"] if request.user.is_staff else []})


@login_required
@require_POST
def greet(request):
    """Pushes to the user's own events: every tab and device hears it."""
    delivered = callboard.publish("greeting", f"hello {request.user.get_username()}", user=request.user.get_username())
    return JsonResponse({"delivered": delivered})
